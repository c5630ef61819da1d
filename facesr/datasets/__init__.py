"""Images in: annotation, the datasets and transforms that configs name, loaders, and checks of what is there."""
