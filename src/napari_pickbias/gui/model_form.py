"""A form made from a job's parameter model: names, defaults, choices and help come from the model."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from qtpy.QtWidgets import QCheckBox, QComboBox, QFormLayout, QLineEdit, QSizePolicy, QVBoxLayout, QWidget
from superqt import QCollapsible

from napari_pickbias.errors import InputError


class ModelForm(QWidget):
    """Fields of a parameter model; those not named ``basic`` are folded away.

    Parameters
    ----------
    model : type of BaseModel
    basic : collection of str
        Fields that are always shown, in this order.
    skip : collection of str
        Fields that are not offered.
    start : mapping
        Values to begin with in place of the model's defaults.
    """

    def __init__(
        self,
        model: type[BaseModel],
        basic: Collection[str],
        skip: Collection[str] = (),
        start: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.fields: dict[str, QWidget] = {}
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Minimum)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        rest = [name for name in model.model_fields if name not in basic and name not in skip]
        column.addWidget(self._form(basic, start or {}))
        if rest:
            more = QCollapsible("More options")
            more.addWidget(self._form(rest, start or {}))
            more.collapse(animate=False)
            column.addWidget(more)

    def _form(self, names: Collection[str], start: Mapping[str, Any]) -> QWidget:
        holder = QWidget()
        holder.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Fixed)
        form = QFormLayout(holder)
        form.setContentsMargins(0, 0, 0, 0)
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        for name in names:
            field = self.model.model_fields[name]
            widget = _widget(field, start.get(name))
            widget.setToolTip(field.description or "")
            self.fields[name] = widget
            form.addRow(label(name), widget)
        return holder

    def set(self, name: str, value: Any) -> None:
        """Enter a value."""
        widget = self.fields[name]
        if isinstance(widget, QCheckBox):
            widget.setChecked(bool(value))
        elif isinstance(widget, QComboBox):
            widget.setCurrentText(str(value))
        else:
            widget.setText("" if value is None else _text(value))

    def values(self) -> dict[str, Any]:
        """Return what was entered; empty fields are left to the model."""
        found: dict[str, Any] = {}
        for name, widget in self.fields.items():
            if isinstance(widget, QCheckBox):
                found[name] = widget.isChecked()
            elif isinstance(widget, QComboBox):
                found[name] = widget.currentText()
            elif widget.text().strip():
                found[name] = widget.text().strip()
        return found

    def parameters(self) -> Any:
        """Return the validated model.

        Raises
        ------
        InputError
            Naming the first field at fault, its value and what is allowed.
        """
        try:
            return self.model(**self.values())
        except ValidationError as error:
            first = error.errors()[0]
            name = label(str(first["loc"][0])) if first["loc"] else "options"
            if first["type"] == "missing":
                raise InputError(
                    f"“{name}”: is missing; {self.model.model_fields[str(first['loc'][0])].description}"
                ) from None
            raise InputError(f"“{name}” {first.get('input')}: {first['msg'].lower()}") from None


def label(name: str) -> str:
    """Return a field's name as a label."""
    text = name.replace("_", " ")
    return {"fdr": "FDR", "ctf": "CTF", "snr": "SNR"}.get(text, text[:1].upper() + text[1:])


def _widget(field: FieldInfo, start: Any) -> QWidget:
    default = start if start is not None else None if field.default is PydanticUndefined else field.default
    kinds = [k for k in get_args(field.annotation) if k is not type(None)] or [field.annotation]
    if get_origin(field.annotation) is Literal:
        box = QComboBox()
        box.addItems([str(value) for value in get_args(field.annotation)])
        box.setCurrentText(str(default))
        return box
    if kinds == [bool] or field.annotation is bool:
        check = QCheckBox()
        check.setChecked(bool(default))
        return check
    needed = field.default is PydanticUndefined
    edit = QLineEdit(placeholderText="needed" if needed else "automatic" if field.default is None else "")
    if default is not None:
        edit.setText(_text(default))
    return edit


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
