"""``python -m latkit``, which is also how torchrun starts it."""

from latkit.cli.main import main

main()
