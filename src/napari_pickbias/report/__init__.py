"""Figures and reports, made from results.

A report is a :class:`~napari_pickbias.report.document.Document`: words, tables and
:class:`~napari_pickbias.report.panels.Panel` objects. A panel is a title, an explanation and a way of drawing; the
HTML page, the PDF pages, a napari dock and cryoSPARC's event log all show the same panels. Nothing here uses pyplot,
so any thread may draw. Importing this package, :mod:`~napari_pickbias.report.palette` or the module of a job's report
loads no matplotlib.
"""
