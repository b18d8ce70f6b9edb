"""Tables of measurements from elsewhere made into datasets, and datasets made into plain tables."""

from latkit.dataset.tables.cells import TableColumn
from latkit.dataset.tables.exporting import export_dataset
from latkit.dataset.tables.importing import (
    ImportRequest,
    ImportResult,
    import_table,
    write_imported,
)
from latkit.dataset.tables.reading import BadRow, MeasuredTable, read_table

__all__ = [
    "BadRow",
    "ImportRequest",
    "ImportResult",
    "MeasuredTable",
    "TableColumn",
    "export_dataset",
    "import_table",
    "read_table",
    "write_imported",
]
