"""The site has the pages of the whole repository at their paths in it, so that their links work there as they are."""

from __future__ import annotations

from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

#: What the site has, from the top of the repository.
PATTERNS = (
    "*.md",
    "docs/*.md",
    "docs/*.png",
    "benchmarks/*.md",
    "benchmarks/*.png",
    "examples/*.png",
    "patchclip/assets/*/README.md",
)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Replace the pages of docs/, which have their paths from there, by all pages, which have theirs from the top."""
    for file in list(files):
        if file.src_dir == config.docs_dir:
            files.remove(file)
    root = Path(config.config_file_path).parent
    for pattern in PATTERNS:
        for path in sorted(root.glob(pattern)):
            name = path.relative_to(root).as_posix()
            files.append(File(name, str(root), config.site_dir, config.use_directory_urls))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Markdown inside of <details> is Markdown, as on GitHub."""
    return markdown.replace("<details>", '<details markdown="1">')
