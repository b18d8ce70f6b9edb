"""LPMs that come with latkit, as files; ``latkit.lpm.builtin`` writes them."""

FOLDERS = ("p100",)
