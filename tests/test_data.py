"""Reading data, and every input that cannot be used: one line that names it, says what is wrong, and what to do."""

import datetime

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from finitewidth.data import check_inputs, load_data
from finitewidth.errors import InputError

X = np.array([[1.0, 2.0, 3.0], [-4.0, 0.1, 1e-3]])


def save(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def refused(source):
    """The one line with which `source` is refused."""
    with pytest.raises(InputError) as caught:
        load_data(source)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_digits():
    digits = load_data("digits")
    assert digits.inputs.shape == (1797, 64) and digits.inputs.dtype == np.float64
    assert digits.inputs.min() == 0 and digits.inputs.max() == 1
    assert len(digits.names) == 64 and "digits" in digits.source
    assert digits.targets.shape == (1797,) and set(digits.targets) == set(range(10))


@pytest.mark.parametrize("ending", ["csv", "npy", "npz", "parquet", "CSV"])
def test_what_was_saved_is_what_is_loaded(tmp_path, ending):
    path = tmp_path / f"x.{ending}"
    frame = pd.DataFrame(X, columns=["u", "v", "w"])
    write = {
        "csv": lambda: frame.to_csv(path, index=False),
        "npy": lambda: np.save(path, X),
        "npz": lambda: np.savez(path, x=X),
        "parquet": lambda: frame.to_parquet(path),
    }
    write[ending.lower()]()
    data = load_data(path)
    np.testing.assert_array_equal(data.inputs, X)
    assert data.names == (("x0", "x1", "x2") if ending.startswith("n") else ("u", "v", "w"))
    assert data.source == path.name and data.targets is None
    np.testing.assert_array_equal(load_data(str(path)).inputs, X)


@given(arrays(np.float64, (3, 2), elements=st.floats(-1e100, 1e100).filter(lambda v: abs(v) > 1e-100)))
def test_csv_keeps_every_digit(tmp_path_factory, x):
    path = tmp_path_factory.mktemp("csv") / "x.csv"
    pd.DataFrame(x, columns=["u", "v"]).to_csv(path, index=False)
    # pandas before 3.1 rounds the last bit of some numbers the wrong way
    np.testing.assert_allclose(load_data(path).inputs, x, rtol=8 * np.finfo(float).eps)


@pytest.mark.parametrize(
    ("text", "names", "rows"),
    [
        ("u,v\n1,2\n3,4\n", ("u", "v"), 2),
        ("1,2\n3,4\n", ("x0", "x1"), 2),  # no header: the first row is data
        ("\n1,2\n3,4\n", ("x0", "x1"), 2),
        ("0,1\n1,2\n3,4\n", ("0", "1"), 2),  # labels of a pandas frame without names
        ("\ufeffu, v\n1, 2\n", ("u", "v"), 1),  # as spreadsheets write it
        ("u,v\r\n1e3,True\r\n", ("u", "v"), 1),
        ("u\n1\n", ("u",), 1),
    ],
)
def test_csv_with_and_without_header(tmp_path, text, names, rows):
    data = load_data(save(tmp_path / "x.csv", text))
    assert data.names == names and data.inputs.shape == (rows, len(names))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("u,v\n1,red\n2,blue\n", ["text in column 'v'", "'red'", "leave it out"]),
        ("u,v,w\nx,1,red\ny,2,blue\n", ["text in columns 'u'", "'w'"]),
        ("u,v\n1,2\n2,oops\n", ["text in column 'v'", "'oops'"]),
        ("u,v\n1,2020-01-01\n", ["text in column 'v'", "'2020-01-01'"]),
        ("u,v\n1,2+1j\n", ["text in column 'v'", "'2+1j'"]),
        ("u,v\n1,2\n,4\n", ["nan at row 1, column 'u'", "fill in or drop"]),
        ("1,2\n3,inf\nnan,1\n", ["inf at row 1, column 'x1' and in 1 more place "]),
        ("u,v\n1,2\n3\n", ["nan at row 1, column 'v'"]),
        ("u,v\n1,2\n3,4,5\n", ["not a table", "line 3"]),
        ("u,v\n1,2,3\n", ["more values in a row than names"]),
        ("u,v\n", ["is empty", "(0, 2)"]),
        ("\n\n", ["not a table"]),
        ("", ["is empty (0 bytes)"]),
        ("u;v\n1;2\n", ["separates its columns by semicolons", "use commas"]),
        ("u\tv\n1\t2\n", ["separates its columns by tabs"]),
        (",u\n0,1\n1,2\n", ["no name for column 0", "index=False"]),
        (",0,1\n0,1.5,2\n", ["no name for column 0"]),
        ("u,v\n1,2\n0,0\n0,0.0\n", ["all zero in 2 rows: 1, 2", "drop it"]),
    ],
)
def test_csv_refused(tmp_path, text, says):
    message = refused(save(tmp_path / "x.csv", text))
    assert "x.csv" in message
    for words in says:
        assert words in message


def test_binary_is_no_csv(tmp_path):
    path = tmp_path / "x.csv"
    path.write_bytes(b"\x93NUMPY\x01\x00\xff\xfe" + bytes(range(256)))
    assert "is not text in UTF-8" in refused(path)


def test_file_that_is_not_there(tmp_path):
    assert "'missing.csv' does not exist; give 'digits' or a file ending in .csv" in refused("missing.csv")
    assert "does not exist" in refused("missing.npz:x")
    assert "is a directory" in refused(tmp_path)


@pytest.mark.parametrize("name", ["x.xlsx", "x", "digit", "x.csv.gz"])
def test_unknown_ending(tmp_path, name):
    (tmp_path / name).write_bytes(b"1")
    assert "not read here; give 'digits' or a file ending in .csv, .npy, .npz, .parquet" in refused(tmp_path / name)


@pytest.mark.parametrize("source", [None, 3, X, b"digits", ["digits"]])
def test_source_that_is_no_path(source):
    with pytest.raises(InputError, match=r"`source` must be 'digits' or a path, but got \w+"):
        load_data(source)


@pytest.mark.parametrize("ending", ["npy", "npz", "parquet"])
def test_file_that_is_not_what_its_ending_says(tmp_path, ending):
    path = save(tmp_path / f"x.{ending}", "u,v\n1,2\n")
    assert "is not a" in refused(path) and "what its ending says" in refused(path)


@pytest.mark.parametrize("ending", ["npy", "npz", "parquet"])
def test_file_that_was_cut_short(tmp_path, ending):
    path = tmp_path / f"x.{ending}"
    big = np.arange(1.0, 5001.0).reshape(50, 100)
    {"npy": lambda: np.save(path, big), "npz": lambda: np.savez(path, x=big)}.get(
        ending, lambda: pd.DataFrame(big, columns=[f"c{i}" for i in range(100)]).to_parquet(path)
    )()
    path.write_bytes(path.read_bytes()[:-2000])
    assert "is it complete" in refused(path)


def test_npy_and_npz_do_not_pass_for_each_other(tmp_path):
    np.save(tmp_path / "x.npy", X)
    np.savez(tmp_path / "y.npz", X)
    (tmp_path / "x.npy").rename(tmp_path / "x.npz")
    (tmp_path / "y.npz").rename(tmp_path / "y.npy")
    assert "is not a NumPy .npz file" in refused(tmp_path / "x.npz")
    assert "is not a NumPy .npy file" in refused(tmp_path / "y.npy")


def test_npz_with_several_arrays(tmp_path):
    path = tmp_path / "x.npz"
    np.savez(path, train=X, test=X[:1])
    message = refused(path)
    assert "holds several arrays, train, test" in message and f"{path}:train" in message
    np.testing.assert_array_equal(load_data(f"{path}:test").inputs, X[:1])
    assert "holds no array 'tset'; choose from train, test" in refused(f"{path}:tset")
    np.savez(path)
    assert "holds no array" in refused(path)


@pytest.mark.parametrize("ending", ["npy", "npz"])
def test_python_objects_are_not_loaded(tmp_path, ending):
    path = tmp_path / f"x.{ending}"
    objects = np.array([[{}, 1]], dtype=object)
    np.save(path, objects, allow_pickle=True) if ending == "npy" else np.savez(path, x=objects)
    assert "Python objects" in refused(path) and "can run code" in refused(path)


@pytest.mark.parametrize(
    ("column", "says"),
    [
        (["a", "b"], "text in column 'v'"),
        ([datetime.datetime(2020, 1, 1)] * 2, "text in column 'v'"),
        ([datetime.timedelta(1)] * 2, "text in column 'v'"),
        ([[1.0], [2.0]], "text in column 'v'"),
        (pd.Categorical(["a", "b"]), "text in column 'v'"),
        ([1.0, None], "nan at row 1, column 'v'"),
        (pd.array([None, 1], dtype="Int64"), "nan at row 0, column 'v'"),
    ],
)
def test_parquet_refused(tmp_path, column, says):
    path = tmp_path / "x.parquet"
    pd.DataFrame({"u": [1.0, 2.0], "v": column}).to_parquet(path)
    assert says in refused(path)


def test_parquet_integers_and_booleans_are_numbers(tmp_path):
    path = tmp_path / "x.parquet"
    pd.DataFrame({"u": [1, 2], "v": [True, False], "w": pd.array([3, 4], dtype="Int32")}).to_parquet(path)
    np.testing.assert_array_equal(load_data(path).inputs, [[1, 1, 3], [2, 0, 4]])


@pytest.mark.parametrize("x", [X.tolist(), X.astype(np.float32), X.astype(int) + 1, X > 1e-2, pd.DataFrame(X)])
def test_arrays_of_numbers_are_taken(x):
    checked = check_inputs(x)
    assert checked.dtype == np.float64
    np.testing.assert_array_equal(checked, np.asarray(x, dtype=float))


def test_small_floats_of_jax_are_taken():
    import jax.numpy as jnp

    np.testing.assert_array_equal(check_inputs(jnp.ones((2, 3), jnp.bfloat16)), np.ones((2, 3)))


def test_data_set_stands_for_its_inputs():
    digits = load_data("digits")
    assert check_inputs(digits) is digits.inputs


@pytest.mark.parametrize(
    ("x", "says"),
    [
        (X[0], r"`x` must have shape \(N, n_in\).*but got \(3,\); make one input a row"),
        (1.0, r"but got \(\)"),
        (np.ones((2, 3, 4)), r"but got \(2, 3, 4\); flatten each input"),
        (np.ones((0, 3)), r"`x` is empty: its shape is \(0, 3\)"),
        (np.ones((3, 0)), r"`x` is empty"),
        ([], r"must have shape"),
        ([[1.0], [1.0, 2.0]], r"`x` is not one rectangular array"),
        (X + 1j, r"`x` must be real, but has dtype complex128"),
        ([["a", "b"]], r"`x` must hold real numbers, but has dtype <U1"),
        (np.array([[1, None]]), r"`x` must hold real numbers, but has dtype object"),
        (np.array([["2020-01-01"]], dtype="M8[D]"), r"has dtype datetime64"),
        ([[1.0, np.nan]], r"`x` must be finite, but has nan at row 0, column 1 \(rows"),
        ([[1.0, 2.0], [-np.inf, np.nan]], r"has -inf at row 1, column 0 and in 1 more place "),
        ([[1.0, 2.0], [0.0, 0.0]], r"`x` is all zero in row 1 "),
        (np.zeros((20, 2)), r"all zero in 20 rows: 0, 1, 2, 3, 4, 5, 6, 7, … "),
        ([[1.0, 2.0], [1e200, 0.0]], r"`x` has entries of size 1e\+200.* in row 1 .*rescale"),
        ([[1e-200, 0.0]], r"`x` has entries of size 1e-200"),
        (np.ma.masked_equal([[1.0, 2.0]], 2.0), r"`x` has masked entries"),
        ("digits", r"`x` must be an array, but got 'digits'; for a file, give load_data\('digits'\)"),
    ],
)
def test_arrays_refused(x, says):
    with pytest.raises(InputError, match=says):
        check_inputs(x)


def test_the_name_of_the_argument_is_the_callers():
    with pytest.raises(InputError, match="`x_test` must be finite"):
        check_inputs([[np.nan]], "x_test")
