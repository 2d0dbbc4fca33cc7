//! Walks nginx's lists, chains and cleanups, which are linked by raw pointers.
//!
//! Runs on: event loop; [`elements`] also in a forked child, since it neither locks nor allocates.

use std::iter;

use ngx::ffi::{ngx_chain_t, ngx_list_t};

/// Pointers to the elements of a list, in order.
///
/// # Safety
///
/// The list is one of `T`, and stays as it is as long as the iterator is used.
pub unsafe fn elements<T>(list: *const ngx_list_t) -> impl Iterator<Item = *mut T> {
    // SAFETY: the list is live, as the caller says, and its first part a member; a part has `nelts`
    // elements, and names the next part, or null.
    unsafe {
        let first = Some(&(*list).part);
        iter::successors(first, |part| part.next.cast_const().as_ref()).flat_map(|part| {
            let elements: *mut T = part.elts.cast();
            (0..part.nelts).map(move |n| elements.add(n))
        })
    }
}

/// The links of a chain, in order. The next link is looked up before the one in front of it is
/// given out, so that the caller may take it out of the chain.
///
/// # Safety
///
/// `chain` is null or a chain, and only links that have been given out are changed as long as the
/// iterator is used.
pub unsafe fn links(chain: *mut ngx_chain_t) -> impl Iterator<Item = *mut ngx_chain_t> {
    let mut next = chain;
    iter::from_fn(move || {
        let link = next;
        // SAFETY: a link of a chain names the next one, or null.
        next = unsafe { link.as_ref()? }.next;
        Some(link)
    })
}
