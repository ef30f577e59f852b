"""The `tandem` command line, which joins the service and, when installed, the training commands."""
