"""cryoSPARC .cs files and job folders to records and back."""
