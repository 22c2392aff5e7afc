"""``python -m napari_pickbias`` is the ``pickbias`` program."""

import sys

from napari_pickbias.cli import main

sys.exit(main())
