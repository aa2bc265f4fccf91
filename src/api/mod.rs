//! Front doors: read a request, ask the engine, shape the answer. Nothing is decided here.

mod cri;
