"""What every part of latkit names: errors, quantities, files, the machine."""
