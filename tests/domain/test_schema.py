from __future__ import annotations

from postroom.domain import schema
from postroom.store.schema import INDEX, MAIL, STATE


def test_every_table_is_declared_by_a_room_of_the_schema() -> None:
    named = {
        table.name
        for room in schema.ROOMS
        for table in vars(room).values()
        if type(table).__name__ == "Table"
    }
    declared = (*MAIL.sorted_tables, *STATE.sorted_tables, *INDEX.sorted_tables)
    assert named == {table.name for table in declared}


def test_the_sweeper_knows_every_reference_to_a_blob() -> None:
    """And takes what goes with its blob for no reason to keep it."""
    text = schema.SWEEP.mark.source
    for table in ("blob_part", "message", "queue_message"):
        assert f"FROM {table} x" in text
    assert "FROM parsed x" not in text
    assert "x.rope" not in text


def test_every_reference_to_a_blob_has_an_index_or_the_sweeper_would_scan() -> None:
    for table in MAIL.sorted_tables:
        for key in table.foreign_keys:
            if key.column.table.name != "blob":
                continue
            leading = [next(iter(index.columns)).name for index in table.indexes]
            leading += [next(iter(table.primary_key.columns)).name]
            assert key.parent.name in leading, f"{table.name}.{key.parent.name}"


def test_steps_are_numbered_without_gaps() -> None:
    for steps in (schema.MAIL_STEPS, schema.STATE_STEPS, schema.INDEX_STEPS):
        assert [step.number for step in steps] == list(range(1, len(steps) + 1))
        assert all(step.sqlite and step.postgres for step in steps)
