//! Needs no nginx but its headers: structures alone.

mod bits;
