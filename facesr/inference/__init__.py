"""An image through a network: precision, self-ensemble, tiles; photos and faces as people have them."""
