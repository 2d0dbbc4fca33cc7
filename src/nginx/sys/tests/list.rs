//! Lists of several parts, empty parts among them, and chains that are taken apart.

use std::mem;
use std::ptr;

use ngx::ffi::{ngx_chain_t, ngx_list_part_t, ngx_list_t};

use super::walk::{elements, links};

/// A list whose parts have these elements.
fn found(parts: &mut [Vec<u32>]) -> Vec<u32> {
    // SAFETY: all-zero bytes are an empty list; its parts live until the end of this function.
    unsafe {
        let mut list: ngx_list_t = mem::zeroed();
        let mut more: Vec<ngx_list_part_t> = Vec::new();
        for elements in parts.iter_mut().rev() {
            let mut part: ngx_list_part_t = mem::zeroed();
            part.elts = elements.as_mut_ptr().cast();
            part.nelts = elements.len();
            more.push(part);
        }
        let mut next = ptr::null_mut();
        let (first, rest) = more.split_last_mut().unwrap();
        for part in rest {
            part.next = next;
            next = part;
        }
        first.next = next;
        list.part = *first;
        elements::<u32>(&raw const list).map(|element| *element).collect()
    }
}

#[test]
fn the_elements_of_all_parts_are_found_in_order() {
    assert!(found(&mut [vec![]]).is_empty());
    assert_eq!(found(&mut [vec![1, 2]]), [1, 2]);
    assert_eq!(found(&mut [vec![1], vec![], vec![2, 3], vec![4]]), [1, 2, 3, 4]);
}

#[test]
fn a_chain_may_be_taken_apart_while_it_is_walked() {
    // SAFETY: all-zero bytes are a link without a buffer; both live until the end of this function.
    unsafe {
        assert_eq!(links(ptr::null_mut()).count(), 0);
        let mut second: ngx_chain_t = mem::zeroed();
        let mut first: ngx_chain_t = mem::zeroed();
        first.next = &raw mut second;
        let mut seen = Vec::new();
        for link in links(&raw mut first) {
            (*link).next = ptr::null_mut();
            seen.push(link.cast_const());
        }
        assert_eq!(seen, [&raw const first, &raw const second]);
    }
}
