"""FSLeyes plugin of FSL-MRS-DL: metabolite and uncertainty maps over the structural image."""
