"""The contract with clients of the original has a case for each row, and each case its row."""

import ast
from pathlib import Path
from typing import Any

import pytest
import yaml

TESTS = Path(__file__).parents[1]
HERE = Path(__file__).parent
ROWS: list[dict[str, Any]] = yaml.safe_load((HERE / "contract_rows.yaml").read_text())
TABLES = {"rest": "contract.yaml", "eureka": "eureka_contract.yaml"}
SECTIONS = {*(f"1.{number}" for number in range(1, 15)), *(f"2.{number}" for number in range(1, 5))}


def cases(table: str) -> list[str]:
    return [case["name"] for case in yaml.safe_load((HERE / TABLES[table]).read_text())["cases"]]


def functions(path: str) -> set[str]:
    tree = ast.parse((TESTS / path).read_text())
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["row"])
def test_a_row_has_cases_that_there_are(row: dict[str, Any]) -> None:
    assert set(row) <= {"row", "rest", "eureka", "tests", "otherwise"}
    assert row.get("rest") or row.get("eureka") or row.get("tests")
    for table in TABLES:
        assert set(row.get(table, ())) <= set(cases(table))
    for test in row.get("tests", ()):
        path, _, name = test.partition("::")
        assert name in functions(path), test


@pytest.mark.parametrize("table", TABLES)
def test_a_case_has_a_row_and_a_name_of_its_own(table: str) -> None:
    found = cases(table)
    assert len(set(found)) == len(found)
    assert set(found) == {name for row in ROWS for name in row.get(table, ())}


def test_no_section_is_left_out_and_no_row_is_there_twice() -> None:
    names = [row["row"] for row in ROWS]
    assert len(set(names)) == len(names)
    assert {name.split(" ", 1)[0] for name in names} == SECTIONS
