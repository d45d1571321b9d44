"""The doors: command line, and later a web page and the frameworks. The only rooms that import a framework."""
