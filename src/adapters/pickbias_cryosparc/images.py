"""Where the image stacks of a particle group lie: paths from the project folder, or (``>``) from the export folder."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from napari_pickbias.errors import InputError
from napari_pickbias.records.images import StackImages
from pickbias_cryosparc.group import Group, contained, plain

_JOB = re.compile(r"J\d+$")
_PROJECT_FILES = ("project.json", "cs.lock", "workspaces.json")


@dataclass(frozen=True)
class ImageFiles:
    """The stacks that the rows point to.

    Attributes
    ----------
    names : tuple of PurePosixPath
        As the file has them, without the mark ``>``.
    paths : tuple of Path
        Where they are.
    file_index : ndarray of int64, shape (n,)
        Which of them each row's image is in.
    base : Path
        Folder that ``names`` start from.
    marked : bool
        The file marks them with ``>``, so ``base`` is the folder of the file itself.
    tried : tuple of Path
        Folders in which the first stack was looked for, when it was found in none.
    """

    names: tuple[PurePosixPath, ...]
    paths: tuple[Path, ...]
    file_index: NDArray[np.int64]
    base: Path
    marked: bool
    tried: tuple[Path, ...] = ()


def find_images(group: Group) -> ImageFiles:
    """Find the stacks of ``blob/path``.

    Nothing is opened. Raises ``InputError`` when a path is empty or leads out of the project folder.
    """
    file_index, unique = pd.factorize(group.column("blob/path").astype(object))
    texts = [os.fsdecode(bytes(u)) for u in unique]
    names = [_inside(group, file_index, number, text) for number, text in enumerate(texts)]
    marked = any(text.startswith(">") for text in texts)
    if marked:
        base, tried = group.folder, tuple[Path, ...]()
    else:
        base, tried = _project_folder(group.folder, names[0])
    return ImageFiles(tuple(names), tuple(base / n for n in names), file_index.astype(np.int64), base, marked, tried)


def _inside(group: Group, file_index: NDArray[np.int64], number: int, text: str) -> PurePosixPath:
    try:
        return contained(text, "")
    except InputError:
        row = int(np.argmax(file_index == number)) + 1  # looked for only now: there may be 10⁵ files
    if not text:
        raise InputError(f"{group.path}: 'blob/path' of row {row} is empty; give an extraction or import job's file")
    return contained(text, f"{group.path}: 'blob/path' of row {row}")


def _project_folder(folder: Path, name: PurePosixPath) -> tuple[Path, tuple[Path, ...]]:
    """Return the folder that project paths start from: the first likely one that has the stack ``name``."""
    ancestors = [plain(folder), *plain(folder).parents]
    jobs = [a.parent for a in ancestors if _JOB.match(a.name)]
    projects = [a for a in ancestors if any((a / file).exists() for file in _PROJECT_FILES)]
    likely = list(dict.fromkeys([*jobs[:1], *projects[:1], *ancestors[:4]]))
    for candidate in likely:
        if (candidate / name).exists():
            return candidate, ()
    return likely[0], tuple(likely)


def lazy_images(group: Group, files: ImageFiles) -> tuple[StackImages, list[str]]:
    """Return the images, multiplied by ``blob/sign`` when read, and notes about them.

    Raises ``InputError`` when the images are not square.
    """
    notes = []
    shape = group.column("blob/shape").reshape(len(group), -1)
    uneven = np.flatnonzero((shape != shape[:, :1]).any(axis=1) | (shape[:, 0] == 0))
    if len(uneven) or shape.shape[1] != 2:
        row = int(uneven[0]) if len(uneven) else 0
        size = "×".join(str(s) for s in shape[row])
        raise InputError(
            f"{group.path}: the image of row {row + 1} is {size} px; particles need square boxes, so give the output "
            "of an extraction job"
        )
    factor = None
    if group.has("blob/sign"):
        factor = group.column("blob/sign").astype(np.float32)
        if (factor == 0).any():
            notes.append("blob/sign is 0 for some particles, taken as +1")
            factor[factor == 0] = 1
        factor = None if (factor == 1).all() else factor
    if files.tried:
        tried = ", ".join(str(t) for t in files.tried)
        notes.append(f"the stack {files.names[0]} is in none of the folders {tried}; keep the .cs file in its project")
    images = StackImages(
        files.paths,
        files.file_index,
        group.column("blob/idx").astype(np.int64),
        box_sizes=shape[:, 0].astype(np.int64),
        factor=factor,
    )
    return images, notes


def link_images(files: ImageFiles, folder: Path) -> None:
    """Make the images reachable from a subset in ``folder`` by links to the folders their paths begin with.

    CryoSPARC does the same in its exports. Inside the project itself no link is needed (unless the paths start from
    the subset's own folder, as ``>`` says).

    Raises ``InputError`` when something else of that name is in the way.
    """
    folder, base = plain(folder), plain(files.base)
    if not files.marked and (folder.is_relative_to(base) or files.tried):
        return
    for top in dict.fromkeys(name.parts[0] for name in files.names):
        link, goal = folder / top, base / top
        if link.exists() and goal.exists() and link.samefile(goal):
            continue
        try:
            if link.is_symlink():
                link.unlink()
            # Relative, so that a project that moves as a whole keeps its links.
            link.symlink_to(os.path.relpath(goal.resolve(), folder.resolve()), target_is_directory=goal.is_dir())
        except FileExistsError:
            raise InputError(
                f"{link}: is in the way of the link to the images in {goal}; write to another folder"
            ) from None
        except OSError:
            return  # file systems without links: the subset is whole all the same
