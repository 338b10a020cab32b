"""The compiled extension: one submodule a subject, wrapped by `citychain.crypto`."""
