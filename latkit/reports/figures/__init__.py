"""Pictures of plain shapes: drawings of architectures and charts, for files and for web pages."""
