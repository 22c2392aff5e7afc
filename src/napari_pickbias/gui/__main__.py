"""``python -m napari_pickbias.gui [FILE...]``."""

from napari_pickbias.gui.launch import main

raise SystemExit(main())
