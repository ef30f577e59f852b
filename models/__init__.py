"""What a model is: networks, semantic ids and their trie, transitions, ensemble and the bundle format.

Both the offline `training` package and the online `service` import from here, so that each rule exists once.
"""
