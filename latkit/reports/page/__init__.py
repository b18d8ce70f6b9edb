"""The report: one page of whatever was measured, predicted, searched and trained.

``inputs`` finds and reads what it is made of, the ``*_sections`` turn that into frozen sections of
numbers, and ``render`` writes these as HTML, Markdown or JSON.
"""
