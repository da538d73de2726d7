import pytest

from tidegate.api.meta import Key
from tidegate.process.manifests import ManifestError, read

POOL = "apiVersion: inference.networking.k8s.io/v1\nkind: InferencePool\nmetadata: {name: %s}\n"


def names(documents) -> list[str]:
    return [document.key.name for document in documents]


def test_a_folder_gives_its_manifests_in_order_and_leaves_other_files_and_folders(tmp_path):
    (tmp_path / "b.yml").write_text(POOL % "b")
    (tmp_path / "a.yaml").write_text(POOL % "a1" + "---\n---\n" + POOL % "a2")
    (tmp_path / "README.md").write_text("# no manifest")
    (tmp_path / "step").mkdir()
    (tmp_path / "step" / "c.yaml").write_text(POOL % "c")
    found = read([str(tmp_path)])
    assert names(found) == ["a1", "a2", "b"]
    assert str(found[1]) == f"{tmp_path}/a.yaml, document 3 (InferencePool a2)"


def test_an_empty_folder_is_told(tmp_path):
    with pytest.raises(ManifestError, match="found no"):
        read([str(tmp_path)])


def test_namespaces_come_first_and_lists_are_taken_apart(tmp_path):
    path = tmp_path / "all.json"
    path.write_text(
        '{"apiVersion": "v1", "kind": "List", "items": ['
        '{"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "namespace": "n"}},'
        '{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "n"}}]}'
    )
    found = read([str(path)])
    assert [document.key for document in found] == [Key("", "n"), Key("n", "s")]


def test_every_problem_is_told_with_its_place(tmp_path):
    (tmp_path / "a.yaml").write_text("- a list\n---\n" + POOL % "fine" + "---\nkind: Pod\n")
    (tmp_path / "b.yaml").write_text("a: {b: c\n")
    with pytest.raises(ManifestError) as caught:
        read([str(tmp_path), "/no/such/file"])
    lines = str(caught.value).splitlines()
    assert lines[0] == "the manifests can't be used:"
    assert "a.yaml, document 1: expected a mapping" in lines[1]
    assert "b.yaml: not YAML" in lines[2]
    assert lines[3] == "  /no/such/file: No such file or directory"
    assert "a.yaml, document 3 (Pod ): apiVersion: found nothing" in lines[4]


ROLLOUT = (
    "apiVersion: tidegate.dev/v1alpha1\nkind: InferenceRollout\nmetadata: {name: move}\n"
    "spec: {stable: llm, canary: llm-new}\n"
)


def test_a_folders_file_of_rollouts_is_left_to_people(tmp_path):
    (tmp_path / "pools.yaml").write_text(POOL % "a")
    (tmp_path / "rollout.yaml").write_text(ROLLOUT)
    later = {document.key.name: document.later for document in read([str(tmp_path)])}
    assert later == {"a": False, "move": True}


def test_a_rollout_is_applied_where_its_file_is_named_or_holds_more(tmp_path):
    named, mixed = tmp_path / "rollout.yaml", tmp_path / "folder" / "all.yaml"
    named.write_text(ROLLOUT)
    mixed.parent.mkdir()
    mixed.write_text(POOL % "a" + "---\n" + ROLLOUT)
    assert not any(document.later for document in read([str(named), str(mixed.parent)]))
