"""One of each kind of plug-in of latkit."""
