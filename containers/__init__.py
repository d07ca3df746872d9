"""Image references, `apptainer exec` command lines, builds and the image self-test."""
