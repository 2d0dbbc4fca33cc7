//! Our declaration of a thread pool is nginx's, where nginx's own file is there to tell.

use std::mem::offset_of;

use super::raw::{declared_thread_pool_s, ngx_thread_pool_s};

#[test]
fn a_thread_pool_is_declared_as_nginx_does() {
    assert_eq!(size_of::<declared_thread_pool_s>(), size_of::<ngx_thread_pool_s>());
    macro_rules! agree {
        ($($field:ident)+) => {
            $(assert_eq!(
                offset_of!(declared_thread_pool_s, $field),
                offset_of!(ngx_thread_pool_s, $field)
            );)+
        };
    }
    agree!(mtx queue waiting cond log name threads max_queue);
}
