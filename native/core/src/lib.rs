//! The algorithms of citychain, free of Python: one module a subject.
