//! Each function of `bits` against the C compiler, which build.rs has given `bits.c`.
//!
//! C writes and Rust reads, Rust writes and C has written the same into other memory: every other
//! byte and bit must be as it was, whether it was 0 or 1.

use std::ffi::{CString, c_char, c_int, c_uint, c_void};

use super::bits::{STRUCTURES, Structure};

#[link(name = "bits", kind = "static")]
unsafe extern "C" {
    fn ngx_http_wsgi_test_bits(
        structure: *const c_char,
        name: *const c_char,
        of: *mut c_void,
        writes: c_int,
        value: *mut c_uint,
        size: *mut usize,
    ) -> c_int;
}

/// The memory of a structure, aligned for any.
struct Memory(Vec<u128>);

impl Memory {
    fn of(structure: &Structure, byte: u8) -> Self {
        let words = structure.size.div_ceil(size_of::<u128>());
        Self(vec![u128::from_ne_bytes([byte; 16]); words])
    }

    fn at(&mut self) -> *mut u8 {
        self.0.as_mut_ptr().cast()
    }

    /// C writes the value, and returns what has become of it.
    fn written_by_c(&mut self, structure: &Structure, field: &str, value: u32) -> u32 {
        let (mut value, mut size) = (value, 0);
        let [name, text] = [structure.name, field].map(|text| CString::new(text).unwrap());
        let of = self.at().cast();
        // SAFETY: the memory is that of the structure, which C names with its size.
        let known = unsafe {
            ngx_http_wsgi_test_bits(name.as_ptr(), text.as_ptr(), of, 1, &mut value, &mut size)
        };
        assert_eq!(known, 1, "bits.c does not know {}.{field}", structure.name);
        assert_eq!(size, structure.size, "{}", structure.name);
        value
    }
}

/// Bit patterns, cut to the width of the field, in memory of zeros and of ones.
fn each(structure: &Structure, field: &str, mut compare: impl FnMut(u8, u32)) {
    let most = Memory::of(structure, 0).written_by_c(structure, field, u32::MAX);
    for value in [0, 1, 2, 5, 0x5555_5555, 0xaaaa_aaaa, u32::MAX] {
        compare(0, value & most);
        compare(0xff, value & most);
    }
}

fn all() -> Vec<&'static Structure> {
    #[cfg(ngx_feature = "ssl")]
    let tls = super::bits::TLS;
    #[cfg(not(ngx_feature = "ssl"))]
    let tls = [];
    STRUCTURES.iter().chain(tls).collect()
}

#[test]
fn rust_reads_each_bit_field_that_c_writes() {
    for structure in all() {
        for (field, read) in structure.readers {
            each(structure, field, |byte, value| {
                let mut memory = Memory::of(structure, byte);
                memory.written_by_c(structure, field, value);
                // SAFETY: the memory is that of the structure.
                let found = unsafe { read(memory.at()) };
                assert_eq!(found, value, "{}.{field} among {byte:#x}", structure.name);
            });
        }
    }
}

#[test]
fn rust_writes_each_bit_field_as_c_does_and_nothing_else() {
    for structure in all() {
        for (function, write) in structure.writers {
            let field = function.strip_prefix("set_").unwrap();
            each(structure, field, |byte, value| {
                let [mut ours, mut theirs] = [(); 2].map(|()| Memory::of(structure, byte));
                // SAFETY: the memory is that of the structure.
                unsafe { write(ours.at(), value) };
                theirs.written_by_c(structure, field, value);
                assert!(ours.0 == theirs.0, "{}.{field} among {byte:#x}", structure.name);
            });
        }
    }
}
