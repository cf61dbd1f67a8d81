"""All that napari sees: readers, writers, sample data, dock widgets. Nothing else imports Qt or napari."""
