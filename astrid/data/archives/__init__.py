"""Public archives: what each has at a position, and how its files come here whole."""

from .products import Archive, Place, Product, Wanted

__all__ = ["Archive", "Place", "Product", "Wanted"]
