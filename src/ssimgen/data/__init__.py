"""Where images come from: `load_images("mnist5k")`, or a path, or a :class:`Source` with options.

The result is two sets, training and held-out, of :class:`Images`; `open_gallery` reads images by name when asked for.
Pictures of folders and of Hugging Face data sets are decoded by worker processes and kept as bytes of the size asked
for: in memory, or in a temporary file that is mapped into memory where they are too many for it (`Source.memory`). IDX
and NumPy files are read into memory whole. To add a source by name, write a function that returns `Images` and add it
to the table in `sources.py`. The training loop takes anything that offers what :class:`ssimgen.training.Data` asks for.
"""

from ssimgen._extras import extra

with extra("train", "ssimgen.data"):
    from ssimgen.data.gallery import Gallery
    from ssimgen.data.images import Images
    from ssimgen.data.sources import Source, Splits, load_images, open_gallery, read_picture

__all__ = ["Gallery", "Images", "Source", "Splits", "load_images", "open_gallery", "read_picture"]
