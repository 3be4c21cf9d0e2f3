"""Ask for a run; whether it exists, where it lies and on which device it ran is settled here."""

from typing import TYPE_CHECKING

from replicate import lazy

if TYPE_CHECKING:
    from replicate.numerics import gains_by_bfloat16
    from replicate.runs.backends import device_for, numerics
    from replicate.runs.cache import (
        Runs,
        deviations,
        each,
        key_of,
        list_found_by_folder,
        load_cached,
        over,
        produce_or_load,
        tables_in,
    )
    from replicate.runs.digest import code_digest, digest_of_file, modules_of
    from replicate.runs.machine import check_variables, commit, device, device_name, jobs
    from replicate.runs.pool import without_seeds
    from replicate.runs.record import (
        carry,
        export,
        find_recorded_seeds,
        is_recorded,
        list_older,
        list_older_than,
        load_pool,
        load_recorded,
        merge,
        read_export,
        record,
        record_file,
        record_path,
        records_of,
        round_numbers,
    )
    from replicate.runs.tables import (
        SettingsByKey,
        checksum_of,
        keep_rows,
        kept_rows,
        provenance_of,
        read_columns,
        read_table,
        write_table,
    )

lazy.attach(__name__)
