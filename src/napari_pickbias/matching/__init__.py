"""Template matching: templates, the score map of a micrograph or tomogram, its peaks, and calibrated thresholds."""

from napari_pickbias.matching.band import band_limited
from napari_pickbias.matching.bank import TemplateBank
from napari_pickbias.matching.peaks import find_peaks
from napari_pickbias.matching.prepared import prepare_bank
from napari_pickbias.matching.scores import score_map
from napari_pickbias.matching.volume_bank import VolumeBank, volume_bank
from napari_pickbias.matching.volume_scores import score_volume

__all__ = [
    "TemplateBank",
    "VolumeBank",
    "band_limited",
    "find_peaks",
    "prepare_bank",
    "score_map",
    "score_volume",
    "volume_bank",
]
