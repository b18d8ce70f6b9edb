"""The bricks that networks of every space are built of; they know no space."""
