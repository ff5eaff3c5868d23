"""What all sections of the configuration have in common."""

from pydantic import BaseModel, ConfigDict, model_validator


class Section(BaseModel):
    """A mapping of the file. Unknown keys are refused; a key without a value counts as not written."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, hide_input_in_errors=True)

    @model_validator(mode="before")
    @classmethod
    def _skip_empty(cls, data: object) -> object:
        if data is None:
            return {}
        if not isinstance(data, dict):
            return data
        return {key: value for key, value in data.items() if not cls._is_empty(key, value)}

    @classmethod
    def _is_empty(cls, key: str, value: object) -> bool:
        field = cls.model_fields.get(key)
        return field is not None and (value is None or (value == "" and field.default is None))
