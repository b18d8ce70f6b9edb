"""The FBNet space: chains of layers."""
