//! Laws that every type keeps, and what each type means.

mod laws;
