"""Streaming a group of particles through a detector: chunks in threads, in order, with finished ones kept."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from napari_pickbias.jobs.outlier_groups import WorkingGroup, prepare_images
from napari_pickbias.jobs.progress import Checkpoints
from napari_pickbias.outliers.verdicts import COLUMNS, REASONS, Detector
from napari_pickbias.records import Particles

CHUNK_IMAGES = 2048
"""Images judged at once: fixed, so that sums and checkpoints do not depend on the number of threads."""
READ_BYTES = 32 * 1024 * 1024
"""Full-size images in hand per thread."""


@dataclass(frozen=True)
class ChunkSums:
    """Sums over the images of one reason, from which averages and power spectra follow."""

    count: int
    image: NDArray[np.float64]  # (d, d) sum of images
    power: NDArray[np.float64]  # (d, d // 2 + 1) sum of |F|^2


@dataclass(frozen=True)
class Chunk:
    """Verdicts of one chunk."""

    rows: NDArray[np.int64]
    columns: dict[str, NDArray[Any]]
    sums: dict[str, ChunkSums]


def add_sums(total: dict[str, ChunkSums], part: dict[str, ChunkSums]) -> None:
    """Add ``part`` to ``total`` in place."""
    for reason, sums in part.items():
        old = total.get(reason)
        total[reason] = (
            sums if old is None else ChunkSums(old.count + sums.count, old.image + sums.image, old.power + sums.power)
        )


def stream_group(
    particles: Particles,
    group: WorkingGroup,
    sign: int,
    detector: Detector,
    threads: int,
    checkpoints: Checkpoints,
    name: str,
) -> Generator[Chunk, None, None]:
    """Yield the chunks of ``group`` in order.

    At most ``threads + 1`` chunks are in work or waiting, which bounds the memory whatever the number of particles.
    Closing the generator lets the chunks in work finish and drops the rest.
    """
    starts = range(0, len(group.rows), CHUNK_IMAGES)

    def work(start: int) -> Chunk:
        rows = group.rows[start : start + CHUNK_IMAGES]
        key = f"{name}_{start // CHUNK_IMAGES:06d}"
        saved = checkpoints.load(key)
        if saved is not None:
            return _unpack(rows, saved)
        images = prepare_in_batches(particles, group, rows, sign)
        chunk = Chunk(rows, detector.evaluate(images), {})
        chunk.sums.update(_sums(images, chunk.columns["reason"]))
        checkpoints.save(key, _pack(chunk))
        return chunk

    # One BLAS thread a worker: the workers are the parallelism, and a chunk's numbers must not depend on their number.
    with threadpool_limits(limits=1, user_api="blas"), ThreadPoolExecutor(max_workers=max(1, threads)) as pool:
        waiting: deque[Future[Chunk]] = deque()
        try:
            for start in starts:
                waiting.append(pool.submit(work, start))
                if len(waiting) > threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def prepare_in_batches(
    particles: Particles, group: WorkingGroup, rows: NDArray[np.int64], sign: int
) -> NDArray[np.float32]:
    """Prepare ``rows`` as :func:`prepare_images` does, holding few full-size images at a time."""
    batch = max(1, READ_BYTES // (4 * group.box_px**2))
    parts = [prepare_images(particles, group, rows[i : i + batch], sign) for i in range(0, len(rows), batch)]
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _sums(images: NDArray[np.float32], reason: NDArray[Any]) -> dict[str, ChunkSums]:
    found = {}
    finite = np.isfinite(images).all(axis=(1, 2))
    for code, text in enumerate(REASONS):
        members = images[(reason == code) & finite]
        if len(members):
            spectrum = np.fft.rfft2(members - members.mean(axis=(1, 2), keepdims=True))
            found[text] = ChunkSums(
                len(members), members.sum(axis=0, dtype=np.float64), (np.abs(spectrum) ** 2).sum(axis=0)
            )
    return found


def _pack(chunk: Chunk) -> dict[str, NDArray[Any]]:
    arrays = {f"column.{name}": values for name, values in chunk.columns.items()}
    for reason, sums in chunk.sums.items():
        arrays[f"count.{reason}"] = np.array(sums.count)
        arrays[f"image.{reason}"] = sums.image
        arrays[f"power.{reason}"] = sums.power
    return arrays


def _unpack(rows: NDArray[np.int64], saved: dict[str, NDArray[Any]]) -> Chunk:
    columns = {name: saved[f"column.{name}"] for name in COLUMNS if f"column.{name}" in saved}
    sums = {
        reason: ChunkSums(int(saved[f"count.{reason}"]), saved[f"image.{reason}"], saved[f"power.{reason}"])
        for reason in REASONS
        if f"count.{reason}" in saved
    }
    return Chunk(rows, columns, sums)
