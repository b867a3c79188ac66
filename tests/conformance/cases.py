"""Classes of tests whose subclasses name what is tested."""


class Cases:
    """Each test that takes `case` runs for all values of the attribute `cases`.

    Tests that take one of the `axes` run for each of its values, too.
    """

    cases: dict
    axes: dict = {}

    def pytest_generate_tests(self, metafunc):
        if "case" in metafunc.fixturenames:
            names, values = zip(*self.cases.items(), strict=True)
            metafunc.parametrize("case", values, ids=names)
        for name, values in self.axes.items():
            if name in metafunc.fixturenames:
                metafunc.parametrize(name, values)
