"""Which module an author means, and where its imports are looked for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pharia_kernel_sdk.build.errors import BuildError


@dataclass(frozen=True)
class Project:
    """A module, and the folder that its absolute imports start from."""

    root: Path
    module: str

    @property
    def name(self) -> str:
        return self.module.rpartition(".")[2]

    @property
    def file(self) -> Path:
        path = self.root.joinpath(*self.module.split("."))
        return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def find(skill: str, folder: Path | None = None) -> Project:
    """The project of a file (``skills/greet.py``) or of a module's name (``skills.greet``), as seen
    from ``folder``. Raises ``BuildError``."""
    folder = folder or Path.cwd()
    path = folder / skill
    if path.suffix == ".py":
        return _of_file(path.resolve(), skill)
    module = skill.removeprefix("./").replace("/", ".")
    if not all(part.isidentifier() for part in module.split(".")):
        raise BuildError(
            f"`{skill}` is neither a Python file, such as greet.py, nor the name of a module, such "
            "as greet or skills.greet."
        )
    project = Project(folder.resolve(), module)
    if not project.file.is_file():
        raise BuildError(
            f"There is no skill `{skill}`: neither the file {skill}.py nor the module "
            f"{project.module} is in {folder}."
        )
    return project


def _of_file(file: Path, given: str) -> Project:
    if not file.is_file():
        raise BuildError(f"There is no file {given}.")
    root = file.parent
    names = [file.stem]
    while (root / "__init__.py").is_file():
        names.insert(0, root.name)
        root = root.parent
    for name in names:
        if not name.isidentifier():
            raise BuildError(
                f"{given}: `{name}` can't be a module's name. Use letters, digits and `_`."
            )
    return Project(root, ".".join(names))
