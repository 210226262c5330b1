//! Memory for a process that lives a few milliseconds: a fixed arena that is handed out from front to back and never taken
//! back, but for its newest piece. The C library's allocator asks the kernel for memory piece by piece and gives it back
//! before the process ends, some twenty system calls that nothing is won by here.
//!
//! What does not fit goes to the system's allocator: a GC of thousands of attachments is as free to use memory as ever.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes. Pages that nothing touches cost nothing.
const SIZE: usize = 512 * 1024;

/// The allocator; see the module's text.
pub struct Arena {
    memory: UnsafeCell<[u8; SIZE]>,
    /// Where what is free begins.
    next: AtomicUsize,
}

// SAFETY: every byte belongs to one allocation at most, as `next` only moves by atomic exchanges.
unsafe impl Sync for Arena {}

impl Arena {
    /// An arena of which nothing is used.
    pub const fn new() -> Arena {
        Arena { memory: UnsafeCell::new([0; SIZE]), next: AtomicUsize::new(0) }
    }

    fn base(&self) -> usize {
        self.memory.get() as usize
    }

    /// Where a piece lies in the arena; `None` if it is the system's.
    fn offset(&self, piece: *const u8) -> Option<usize> {
        (piece as usize).checked_sub(self.base()).filter(|offset| *offset < SIZE)
    }

    /// Moves the end of the newest piece; false when another piece has come after it, or there is no room.
    fn move_end(&self, from: usize, to: usize) -> bool {
        to <= SIZE && self.next.compare_exchange(from, to, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

impl Default for Arena {
    fn default() -> Arena {
        Arena::new()
    }
}

// SAFETY: pieces do not overlap, are aligned, and lie where they are until they are given back.
unsafe impl GlobalAlloc for Arena {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let mut next = self.next.load(Ordering::Relaxed);
        loop {
            let start = (self.base() + next).next_multiple_of(layout.align()) - self.base();
            let end = start.saturating_add(layout.size());
            if end > SIZE {
                // SAFETY: the caller's promises are the system's conditions.
                return unsafe { System.alloc(layout) };
            }
            match self.next.compare_exchange_weak(next, end, Ordering::Relaxed, Ordering::Relaxed) {
                // SAFETY: `start` is within the memory.
                Ok(_) => return unsafe { self.memory.get().cast::<u8>().add(start) },
                Err(present) => next = present,
            }
        }
    }

    unsafe fn dealloc(&self, piece: *mut u8, layout: Layout) {
        match self.offset(piece) {
            Some(start) => {
                self.move_end(start + layout.size(), start);
            }
            // SAFETY: what is not in the arena came from the system.
            None => unsafe { System.dealloc(piece, layout) },
        }
    }

    unsafe fn realloc(&self, piece: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let Some(start) = self.offset(piece) else {
            // SAFETY: what is not in the arena came from the system.
            return unsafe { System.realloc(piece, layout, size) };
        };
        if self.move_end(start + layout.size(), start.saturating_add(size)) || size <= layout.size() {
            return piece;
        }
        // SAFETY: the caller promises that `size`, rounded up to the alignment, is no overflow.
        let moved = unsafe { self.alloc(Layout::from_size_align_unchecked(size, layout.align())) };
        if !moved.is_null() {
            // SAFETY: both pieces are at least this long, and the new one is apart from the old one.
            unsafe { moved.copy_from_nonoverlapping(piece, layout.size()) };
        }
        moved
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn layout(size: usize, align: usize) -> Layout {
        Layout::from_size_align(size, align).unwrap()
    }

    #[test]
    fn the_newest_piece_is_taken_back_and_grows_where_it_is() {
        let arena = Box::new(Arena::new());
        // SAFETY: every piece is given back as it was taken, and none is used after.
        unsafe {
            let first = arena.alloc(layout(100, 8));
            let second = arena.alloc(layout(10, 1));
            assert_eq!(arena.realloc(second, layout(10, 1), 1000), second);
            let moved = arena.realloc(first, layout(100, 8), 200);
            assert_ne!(moved, first, "another piece has come after it");
            arena.dealloc(moved, layout(200, 8));
            assert_eq!(arena.alloc(layout(200, 8)), moved);
            assert_eq!(arena.realloc(second, layout(1000, 1), 5), second, "to shrink needs no room");
        }
    }

    #[test]
    fn what_does_not_fit_comes_from_the_system() {
        let arena = Box::new(Arena::new());
        // SAFETY: as above.
        unsafe {
            let large = arena.alloc(layout(SIZE + 1, 16));
            assert_eq!(arena.offset(large), None);
            let larger = arena.realloc(large, layout(SIZE + 1, 16), 2 * SIZE);
            arena.dealloc(larger, layout(2 * SIZE, 16));
            let all = arena.alloc(layout(SIZE, 1));
            assert_eq!(arena.offset(all), Some(0));
            let moved = arena.realloc(all, layout(SIZE, 1), SIZE + 1);
            assert_eq!(arena.offset(moved), None);
            arena.dealloc(moved, layout(SIZE + 1, 1));
        }
    }

    proptest! {
        /// Pieces of any size and alignment, given back in any order, never share a byte and keep what is in them.
        #[test]
        fn pieces_are_apart(steps in prop::collection::vec((0usize..40_000, 0u32..7, any::<prop::sample::Index>(), 0u8..4), 1..80)) {
            let arena = Box::new(Arena::new());
            let mut held: Vec<(*mut u8, Layout, u8)> = Vec::new();
            let whole = |(piece, layout, mark): &(*mut u8, Layout, u8)| {
                // SAFETY: the piece is held, and was filled when it was taken.
                unsafe { std::slice::from_raw_parts(*piece, layout.size()).iter().all(|byte| byte == mark) }
            };
            for (n, (size, align, which, what)) in steps.into_iter().enumerate() {
                let mark = n as u8;
                // SAFETY: pieces are given back once, as they were taken.
                unsafe {
                    if what == 0 && !held.is_empty() {
                        let (piece, layout, _) = held.remove(which.index(held.len()));
                        arena.dealloc(piece, layout);
                    } else if what == 1 && !held.is_empty() {
                        let at = which.index(held.len());
                        let (piece, old, mark) = held[at];
                        let size = size.max(1);
                        let piece = arena.realloc(piece, old, size);
                        let kept = std::slice::from_raw_parts(piece, size.min(old.size()));
                        prop_assert!(kept.iter().all(|byte| *byte == mark));
                        piece.write_bytes(mark, size);
                        held[at] = (piece, layout(size, old.align()), mark);
                    } else {
                        let layout = layout(size.max(1), 1 << align);
                        let piece = arena.alloc(layout);
                        prop_assert_eq!(piece as usize % layout.align(), 0);
                        piece.write_bytes(mark, layout.size());
                        held.push((piece, layout, mark));
                    }
                }
                prop_assert!(held.iter().all(whole));
            }
            for (piece, layout, _) in held {
                // SAFETY: as above.
                unsafe { arena.dealloc(piece, layout) };
            }
        }
    }
}
