"""Readers that turn interaction files into one `Dataset`, and the synthetic demo catalogue."""
