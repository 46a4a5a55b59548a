"""Documents to text, and long texts to passages."""

from __future__ import annotations

import io
import sys
import zipfile
from pathlib import Path

import pytest

from nomoat.core.errors import DataError, UsageError
from nomoat.data.documents import passages, read_document
from nomoat.data.read import ReadOptions, read


def simple_pdf(text: str) -> bytes:
    """One page with one line of Helvetica, written by hand."""
    stream = f"BT /F1 12 Tf 72 720 Td ({text}) Tj ET".encode()
    objects = [
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 612 792]/Contents 4 0 R/Resources<</Font<</F1 5 0 R>>>>>>",
        b"<</Length %d>>stream\n%s\nendstream" % (len(stream), stream),
        b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
    ]
    out, offsets = io.BytesIO(), []
    out.write(b"%PDF-1.4\n")
    for number, body in enumerate(objects, start=1):
        offsets.append(out.tell())
        out.write(b"%d 0 obj%sendobj\n" % (number, body))
    start = out.tell()
    out.write(b"xref\n0 6\n0000000000 65535 f \n")
    out.write(b"".join(b"%010d 00000 n \n" % offset for offset in offsets))
    out.write(b"trailer<</Size 6/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF" % start)
    return out.getvalue()


def test_plain_text_and_markdown_are_read_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_bytes("\ufeff# Título\r\n\r\ntext".encode())
    assert read_document(tmp_path / "a.md") == "# Título\n\ntext"


@pytest.mark.parametrize(
    ("page", "text"),
    [
        (
            "<html><head><title>t</title><style>p{}</style></head><body><h1>Moby &amp; Dick</h1>\n"
            "<p>Call  me\n<b>Ishmael</b>.</p><script>x('<p>')</script><p>So.</p></html>",
            "Moby & Dick\n\nCall me Ishmael.\n\nSo.",
        ),
        ("a<br>b<br/>c<div>d</div>e", "a\nb\nc\nd\ne"),
        ("<ul><li>one</li><li>two</li></ul>after", "one\ntwo\n\nafter"),
        ("<table><tr><td>1</td><td>2</td></tr><tr><th>3</th></tr></table>", "1 2\n3"),
        ("<p>code:<pre>if x:\n    y</pre>", "code:\n\nif x:\n    y"),
        ("<nav><ul><li>menu</li></ul></nav>text<svg/>more", "textmore"),
        ("<head><body>the end of the head was left out", "the end of the head was left out"),
        ("x < y &lt; z &nosuch; <!-- no --><![CDATA[q]]>", "x < y < z &nosuch;"),
        ("", ""),
    ],
)
def test_html_gives_the_words_that_a_reader_sees(tmp_path: Path, page: str, text: str) -> None:
    (tmp_path / "a.html").write_text(page)
    assert read_document(tmp_path / "a.html") == text


def test_deeply_nested_html_takes_no_time(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text("<div><nav>" * 5_000 + "y</nav>" + "</nav>" * 5_000 + "x")
    assert read_document(tmp_path / "a.html") == "x"


def test_a_pdf_gives_its_words(tmp_path: Path) -> None:
    pytest.importorskip("pypdf")
    (tmp_path / "a.pdf").write_bytes(simple_pdf("Call me Ishmael"))
    assert read_document(tmp_path / "a.pdf") == "Call me Ishmael"


def test_a_word_document_gives_paragraphs_and_tables_in_order(tmp_path: Path) -> None:
    docx = pytest.importorskip("docx")
    document = docx.Document()
    document.add_paragraph("Before")
    table = document.add_table(rows=2, cols=2)
    for index, cell in enumerate(cell for row in table.rows for cell in row.cells):
        cell.text = f"c{index}"
    document.add_paragraph("After")
    document.save(str(tmp_path / "a.docx"))
    assert read_document(tmp_path / "a.docx") == "Before\n\nc0 | c1\nc2 | c3\n\nAfter"


@pytest.mark.parametrize("suffix", [".pdf", ".docx"])
@pytest.mark.parametrize("content", [b"", b"%PDF-1.4\ngarbage", b"PK\x03\x04garbage"])
def test_damaged_documents_are_our_error(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"a\.(pdf|docx): "):
        read_document(path)


def test_a_zip_that_is_no_document_or_unpacks_without_end_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.docx"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("word/document.xml", b"0" * 5_000_000)
    with pytest.raises(DataError, match="cannot be read"):
        read_document(path)
    monkeypatch.setattr("nomoat.data.documents.MAX_UNPACKED_BYTES", 1 << 20)
    with pytest.raises(DataError, match="unpacks to 4 MiB"):
        read_document(path)


@pytest.mark.parametrize(("suffix", "module"), [(".pdf", "pypdf"), (".docx", "docx")])
def test_a_missing_reader_is_named_with_what_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, module: str
) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_bytes(b"x")
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UsageError, match=f"needs {module}") as caught:
        read_document(path)
    assert caught.value.hint == "pip install 'nomoat[documents]'"


def test_passages_end_at_paragraphs_and_lose_only_blank_lines() -> None:
    paragraphs = [f"Paragraph {n}. " + "word " * (n % 7) for n in range(200)]
    text = "\n\n".join(paragraphs)
    cut = list(passages(text, 300))
    assert all(len(piece) <= 300 for piece in cut)
    assert "\n\n".join(cut) == text.strip("\n")
    assert all(piece.startswith("Paragraph") for piece in cut)


def test_a_paragraph_that_is_too_long_is_cut_at_sentences_then_anywhere() -> None:
    sentences = "One two three. " * 40
    assert all(piece.endswith(("three. ", "three.")) for piece in passages(sentences.strip(), 100))
    assert "".join(passages("x" * 250, 100)) == "x" * 250


def test_zero_keeps_a_document_whole(tmp_path: Path) -> None:
    text = "a\n\nb" * 5000
    (tmp_path / "a.txt").write_text(text)
    assert read(tmp_path, ReadOptions(passage=0)).rows == [{"text": text}]
    assert len(read(tmp_path).rows) > 1


def test_a_folder_of_documents_is_read_in_order_and_says_what_it_left_aside(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "b.txt").write_text("two")
    (tmp_path / "a.md").write_text("one")
    (tmp_path / "sub" / "c.txt").write_text("three")
    (tmp_path / "empty.txt").write_text(" \n")
    (tmp_path / ".hidden.txt").write_text("no")
    (tmp_path / "photo.jpg").write_bytes(b"\xff\xd8")
    reading = read(tmp_path)
    assert [row["text"] for row in reading.rows] == ["one", "two", "three"]
    assert [path.name for path in reading.aside] == ["photo.jpg"]
    assert reading.dropped["no text in the document"].count == 1
    assert "a folder of 4 documents" in reading.why


def test_binary_rubbish_in_a_text_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"abc\x00def")
    with pytest.raises(DataError, match="character 4 is a NUL"):
        read(tmp_path)
