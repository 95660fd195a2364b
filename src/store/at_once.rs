//! Reading many files by several threads at once: what is in the page cache costs time of the processor alone.

/// More threads than this make nothing faster.
const MOST_THREADS: usize = 4;

/// Reads parts of a list at once, and gives what was read in its order. `worth` items are worth a thread.
///
/// # Panics
/// Where `read` does.
pub(crate) fn at_once<I: Sync, T: Send>(
    items: &[I],
    worth: usize,
    read: impl Fn(&[I]) -> Vec<T> + Sync,
) -> Vec<T> {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let threads = cores.min(MOST_THREADS).min(items.len() / worth);
    if threads < 2 {
        return read(items);
    }
    let share = items.len().div_ceil(threads);
    std::thread::scope(|scope| {
        let started: Vec<_> = items.chunks(share).map(|chunk| scope.spawn(|| read(chunk))).collect();
        let mut all = Vec::with_capacity(items.len());
        for thread in started {
            match thread.join() {
                Ok(mut part) => all.append(&mut part),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        all
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_has_the_order_of_the_list_however_many_threads_read_it() {
        for count in [0, 1, 7, 8, 1000] {
            let items: Vec<usize> = (0..count).collect();
            let read = at_once(&items, 4, |part| part.iter().filter(|one| *one % 3 != 1).copied().collect());
            assert_eq!(
                read,
                items.iter().filter(|one| *one % 3 != 1).copied().collect::<Vec<_>>(),
                "{count}"
            );
        }
    }
}
