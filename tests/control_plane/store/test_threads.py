"""Many threads on one store: no change is lost, and no reader sees half of one."""

from concurrent.futures import ThreadPoolExecutor
from threading import Event

from control_plane.store.store import Store
from tests.support.stores import document


def test_changes_from_many_threads_all_count_and_keep_the_chain(store: Store) -> None:
    def change(number: int) -> int:
        return store.change_policies([document(f"p{number}")], [], author="ann", message="").number

    with ThreadPoolExecutor(8) as pool:
        numbers = list(pool.map(change, range(40)))
    assert sorted(numbers) == list(range(1, 41))
    assert (store.number(), len(store.policies()), store.verify_audit()) == (40, 40, 41)


def test_a_reader_never_sees_half_a_change(store: Store) -> None:
    names = ("a", "b", "c", "d")
    done = Event()

    def write() -> None:
        for generation in range(1, 40):
            store.change_policies([document(name, generation) for name in names], [], author="ann", message="")
        done.set()

    def read() -> int:
        reads = 0
        while not done.is_set():
            contents = store.contents()
            assert {policy.number for policy in contents.policies} <= {contents.number}
            assert len(contents.policies) in {0, len(names)}
            assert [policy.document for policy in contents.policies] in (
                [],
                [document(name, contents.number) for name in names],
            )
            reads += 1
        return reads

    with ThreadPoolExecutor(4) as pool:
        readers = [pool.submit(read) for _ in range(3)]
        pool.submit(write).result()
        assert sum(reader.result() for reader in readers) > 0
