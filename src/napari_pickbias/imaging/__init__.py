"""Image formation shared by all methods: arrays in, arrays out; no files and no GUI.

Conventions of this room
------------------------
* Images are ``(..., h, w)`` arrays indexed ``[y, x]``; volumes are ``(z, y, x)``. The origin of a box of side ``n`` is
  the pixel ``n // 2`` on every axis, for odd and even ``n`` alike (RELION's and cryoSPARC's convention;
  the projections that RELION 3 writes into odd boxes lie one pixel farther along x and y).
* Rotations are active 3x3 matrices acting on column vectors ``(x, y, z)``; RELION's (rot, tilt, psi) convert through
  :mod:`napari_pickbias.imaging.rotations`.
* Lengths are Å where the name says ``angstrom``, pixels where it says ``px``.

Modules
-------
``fourier`` grids, resampling, shifts, filters; ``ctf`` transfer function and phase flipping; ``rotations`` angles and
grids; ``projection`` slices and their adjoint; ``volumes`` boxes, masks, extents; ``correlation`` FRC and FSC;
``noise`` spectra, noise, surrogates; ``phantoms`` molecules with closed forms; ``scenes`` what particle boxes show;
``simulation`` the published outlier experiment. Import from the modules: nothing is loaded here.
"""
