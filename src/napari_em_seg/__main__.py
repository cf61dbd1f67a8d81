"""Makes ``python -m napari_em_seg`` the same as the command napari-em-seg."""

from napari_em_seg.cli import main

if __name__ == "__main__":
    main()
