"""A cluster file that is wrong is one line with what is wrong and its place."""

import pytest

from replicate import errors
from replicate.runs import cluster_file

WRONG = {
    "": "must say the kind",
    "kind = 3": "kind must be of type str, got 3",
    "kid = 'LocalCluster'": "did you mean 'kind'",
    "kind = ": "is no cluster file",
    "kind = 'LocalCluster'\noptions = 2": "options must be of type dict",
}


@pytest.mark.parametrize("text, words", WRONG.items())
def test_a_wrong_file_is_refused(tmp_path, text, words):
    path = tmp_path / "cluster.toml"
    path.write_text(text)
    with pytest.raises(errors.BadData) as failed:
        cluster_file.read(path)
    assert words in str(failed.value) and str(path) in str(failed.value)


def test_a_cluster_nobody_knows_or_that_does_not_start(tmp_path):
    pytest.importorskip("distributed", reason="needs the extra cluster")
    path = tmp_path / "cluster.toml"
    path.write_text("kind = 'SLURMCluser'")
    with pytest.raises(errors.BadData, match="did you mean 'SLURMCluster'"):
        cluster_file.start(str(path))
    path.write_text("kind = 'SLURMCluster'\noptions = {cores = 1}")
    with pytest.raises(errors.Unavailable, match="SLURMCluster does not start .*memory"):
        cluster_file.start(str(path))


@pytest.mark.parametrize(
    "where, is_file", [("tcp://host:8786", False), ("tls://h:1", False), ("a/b.toml", True)]
)
def test_addresses_and_files_are_told_apart(where, is_file):
    assert cluster_file.is_file_name(where) is is_file
    with pytest.raises(errors.BadParameter, match="got 'host'"):
        cluster_file.is_file_name("host")
