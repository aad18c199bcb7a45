"""Truths, answers that are right of them in many words, and answers that are not, near-misses among them."""

Case = tuple[dict[str, object], list[str], list[str]]
CASES: list[Case] = [
    (
        {'kind': 'count', 'value': 7},
        [
        'There are a total of 7.', 'The image shows 7 red cars.', '7 cars', 'I can see 7 people in the picture.',
        'So the count is 7.', '7。', '**7**', 'seven (7)', 'There are seven (7) apples', 'Total: 7',
        'Let me count: 1, 2, 3, 4, 5, 6, 7.\nSo there are 7.', '共7个', '图中有七只猫', 'There appear to be 7 birds.',
        '\\boxed{7}', '\\text{7}',
        ],
        [
        '7.5', '70', '17', '7 or 8', '6-8', 'between 6 and 8', 'not 7', '7 cars and 2 trucks', 'about 6', '-7', '7%',
        '1, 2, 3, 4, 5, 6, 7, 8', 'seventy', 'seventeen', '<think>7</think>8', 'more than 7',
        ],
    ),
    (
        {'kind': 'count', 'value': 0},
        [
        '0', 'zero', 'There are no cars.', 'None', 'no cars', 'There is none.',
        ],
        [
        '1', 'one', 'there are not many',
        ],
    ),
    (
        {'kind': 'number', 'value': '0.5'},
        [
        '1/2', '50%', '0.50', '\\frac{1}{2}', 'half', 'one half', '.5', '50 percent', '0.5 (approximately)',
        'x = 0.5', 'The probability is 1/2.',
        ],
        [
        '0.6', '5', '2', '-0.5', '1/3', '0.05', '0.5 or 0.6',
        ],
    ),
    (
        {'kind': 'number', 'value': 1200000, 'rel_tol': 0.01},
        [
        '1.2 million', '1,200,000', '1.2M', '$1.2 million', '1.2×10^6', '1.2e6', '1200 thousand', '120万',
        'The revenue was 1.2 million dollars in 2019.',
        ],
        [
        '1.2', '1.2 billion', '12 million', '1200',
        ],
    ),
    (
        {'kind': 'number', 'value': '20', 'unit': '°C'},
        [
        '68 °F', '68°F', '293.15 K', '20 °C', '20 degrees Celsius', '20', '20℃',
        ],
        [
        '20 °F', '20 K', '-20 °C', '68',
        ],
    ),
    (
        {'kind': 'number', 'value': '90', 'unit': 'degrees'},
        [
        '90°', '90^\\circ', '90 deg', '90', '$90^\\circ$', '1.5707963267948966 rad',
        ],
        [
        '45°', '90 rad',
        ],
    ),
    (
        {'kind': 'number', 'value': '5', 'unit': 'm/s'},
        [
        '5 m/s', '18 km/h', '5 meters per second', '5 \\text{ m/s}', '5', '5 m·s^{-1}', '5\\ \\mathrm{m/s}',
        ],
        [
        '5 km/h', '18 m/s', '5 m',
        ],
    ),
    (
        {'kind': 'number', 'value': '3.14159', 'digits': 3},
        [
        '3.14', '3.1416', '3.142',
        ],
        [
        '3.1', '3.15', '3.2',
        ],
    ),
    (
        {'kind': 'number', 'value': '5', 'unit': 'kg', 'unit_required': True},
        [
        '5 kg', '5000 g', '11.02311310924388 lb',
        ],
        [
        '5', '5 lb',
        ],
    ),
    (
        {'kind': 'number', 'value': '3.50', 'unit': '$'},
        [
        '$3.50', '3.5 dollars', '3.5', '350 cents', '\\$3.50',
        ],
        [
        '€3.50', '$35', '3.5 cents',
        ],
    ),
    (
        {'kind': 'choice', 'value': 'B', 'options': {'A': 'a red car', 'B': 'a blue car', 'C': 'both A and B'}},
        [
        'B', 'b', '(B)', 'B.', 'B: a blue car', 'The correct option is (B).', 'Option B', 'a blue car', '\\boxed{B}',
        '\\text{B}', '**B**', 'The answer is B because A is wrong.', 'I think it is B.', 'Answer: B) a blue car',
        '答案是B',
        ],
        [
        'A', 'C', 'B or C', 'A, B', 'a red car', 'both A and B', 'not B', 'BB', '<think>B',
        ],
    ),
    (
        {'kind': 'choice', 'value': 'A'},
        [
        'A', 'A. because', 'The answer is (A)', 'answer: a',
        ],
        [
        'A car is visible and B is not.', 'B', 'a car', 'An apple',
        ],
    ),
    (
        {'kind': 'exact', 'value': 'yes'},
        [
        'Yes', 'yes.', 'Yes!', '**Yes**', 'The answer is yes.', '<answer>Yes</answer>',
        ],
        [
        'no', 'yes and no', 'not yes', 'yesterday', '',
        ],
    ),
    (
        {'kind': 'exact', 'value': 'Paris', 'also': ['paris, france']},
        [
        'Paris', 'It is Paris.', '"Paris"', 'Paris, France',
        ],
        [
        'London', 'Paris or London', 'Par is',
        ],
    ),
    (
        {'kind': 'ocr', 'value': 'EXIT 12'},
        [
        'EXIT 12', '"EXIT 12"', 'The text reads "EXIT 12".', 'The sign says: EXIT 12', 'EXIT\n12', 'ＥＸＩＴ 12',
        'Text: EXIT 12',
        ],
        [
        'EXIT 13', 'exit 12', 'EXIT12', 'EXIT 1 2', 'EXIT 12 13', 'The sign says "EXIT 13", not EXIT 12',
        ],
    ),
    (
        {'kind': 'ocr', 'value': '“Hello”, she said.'},
        [
        '“Hello”, she said.',
        ],
        [
        'Hello, she said',
        ],
    ),
    (
        {'kind': 'span', 'start': 12, 'end': 34, 'min_iou': 0.9},
        [
        'starts at 0:12 and ends at 0:34', '00:12-00:34', '12 to 34', '12s to 34s', 'From 12 seconds to 34 seconds.',
        'The event happens from 00:00:12 to 00:00:34.', '<|clip_time_start|>[12.0, 34.0]<|clip_time_end|>',
        '12.0 – 34.0 s', 'between 0:12 and 0:34', '[0:12, 0:34]', 'start: 12, end: 34',
        'It begins at 12 seconds and finishes at 34 seconds', '0:12～0:34', '从12秒到34秒',
        'Start time: 00:12, end time: 00:34', '(12, 34)', '12秒至34秒',
        ],
        [
        '34 to 12', '12', '12 to 38', '0:12 to 0:34, and 1:00 to 1:20', '1:12 to 1:34', '0:10', '12:00 to 34:00',
        ],
    ),
    (
        {'kind': 'span', 'start': '1:02:03', 'end': '1:02:13'},
        [
        '01:02:03 to 01:02:13', '3723 - 3733', '62:03 to 62:13', '1h2m3s to 1h2m13s',
        ],
        [
        '1:02 to 1:12',
        ],
    ),
    (
        {'kind': 'point', 'box': [10, 20, 30, 40]},
        [
        '(10, 20)', '[30,40]', 'Click at (15, 25).', 'x: 15, y: 25', '15, 25', '15 25', 'pyautogui.click(15, 25)',
        '{"x": 15, "y": 25}', 'The point is (15.5, 20.0)', '<point>15 25</point>', 'click(x=15, y=25)',
        ],
        [
        '(9, 20)', '(31, 20)', '(10, 41)', '(15, 25) and (200, 200)', '25', '(20, 15)', '15, 25, 30',
        ],
    ),
    (
        {'kind': 'box', 'boxes': [[10, 20, 30, 40]], 'min_iou': 0.5},
        [
        '[10,20,30,40]', '(10,20,30,40)', '{"bbox_2d": [10, 20, 30, 40]}', '<box>(10,20),(30,40)</box>',
        'x1=10, y1=20, x2=30, y2=40', '10, 20, 30, 40', '10 20 30 40', 'The object is at [10, 20, 30, 40].',
        '```json\n[{"bbox_2d": [10, 20, 30, 40], "label": "cat"}]\n```',
        'top left (10, 20) and bottom right (30, 40)', '{"left": 10, "top": 20, "right": 30, "bottom": 40}',
        ],
        [
        '[20,10,40,30]', '[10,20,20,29]', '[10,20,30,40],[50,50,60,60]', '[10,20,30]', '[30,40,10,20]',
        ],
    ),
    (
        {'kind': 'chart', 'value': '45%'},
        [
        '45%', '45', '0.45', '45 percent', '46%', 'about 45%', 'The share is 45%.',
        ],
        [
        '50%', '0.5', '42%', '4.5',
        ],
    ),
    (
        {'kind': 'chart', 'value': '2015', 'rel_tol': 0},
        [
        '2015', 'In 2015', '2015年',
        ],
        [
        '2016',
        ],
    ),
    (
        {'kind': 'chart', 'value': 'Yes'},
        [
        'yes', 'Yes.',
        ],
        [
        'No',
        ],
    ),
    (
        {'kind': 'chart', 'value': ['Asia', 'Europe']},
        [
        'Asia, Europe', 'Europe and Asia', '[Asia, Europe]', 'Asia\nEurope',
        ],
        [
        'Asia', 'Asia, Africa', 'Asia, Europe, Africa',
        ],
    ),
    (
        {'kind': 'chart', 'value': '1,234'},
        [
        '1234', '1,234', '1.2 thousand', 'The total is 1,250',
        ],
        [
        '1.234', '2,000',
        ],
    ),
    (
        {'kind': 'fuzzy', 'value': 'the quick brown fox', 'min_ratio': 0.9},
        [
        'The quick brown fox', 'the quick brown fo',
        ],
        [
        'the slow brown fox', 'a dog',
        ],
    ),
    (
        {'kind': 'formula', 'value': '2'},
        [
        '2', 'x=2', 'The answer is 2.', 'The value of x is $2$', '\\boxed{2}', '\\frac{4}{2}', 'so x = 2',
        ],
        [
        '2 or 3', 'x = 2 or x = 3', 'The value of x is 2 or 3', '3', 'x^2 = 2', 'x^2=2y', '1 and 2', '2x', '-2',
        '\\pm 2', 'There are two cases', '2, 3', 'x>2', '(2,3)', 'the 2nd',
        ],
    ),
    (
        {'kind': 'formula', 'value': 'x=1 or x=2'},
        [
        'x=1, x=2', '\\{1,2\\}', 'x = 2 or x = 1', '1, 2',
        ],
        [
        '1', 'x=1', '1, 3',
        ],
    ),
    (
        {'kind': 'formula', 'value': '\\frac{1}{2}'},
        [
        '**Answer:** $\\frac{1}{2}$', 'Thus the probability is $\\boxed{\\frac{1}{2}}$.',
        'The answer is \\(\\frac12\\).', '1/2', '0.5', '50\\%', 'P = \\frac{1}{2}', 'P(A) = 1/2',
        'Therefore, $P(A)=\\frac{1}{2}$', 'The final answer is: $\\boxed{\\dfrac{1}{2}}$',
        ],
        [
        '\\frac{1}{2}x', '1/2 or 1/3', '\\frac{1}{3}', 'The probability is not 1/2.', '1/2 < p',
        '\\frac{2}{1}', '$p \\neq \\frac{1}{2}$', 'between 0 and 1/2',
        ],
    ),
    (
        {'kind': 'formula', 'value': 'x^2+1'},
        [
        'The polynomial is $1+x^2$.', 'f(x) = x^2 + 1', '$f(x)=x^{2}+1$', 'y = x^2+1', 'x**2+1', 'x²+1',
        'The function is given by f(x) = x^2+1, where x is real.',
        ],
        [
        'x^2-1', '2x+1', 'x^2+1 = 0', 'x^2+y', '(x+1)^2', 'x^2',
        ],
    ),
    (
        {'kind': 'formula', 'value': '(3, 4)'},
        [
        '(3,4)', '$(3, 4)$', 'The point is (3, 4).', '\\left(3,4\\right)', '(x, y) = (3, 4)',
        ],
        [
        '(4,3)', '3', '[3,4]', '3,5',
        ],
    ),
    (
        {'kind': 'formula', 'value': '3\\sqrt{2}'},
        [
        '\\sqrt{18}', '3*sqrt(2)', '3√2', '4.242640687', 'The length is 3√2 cm', '3\\sqrt{2}\\text{ cm}',
        'The length is $3\\sqrt{2}$ units.',
        ],
        [
        '3\\sqrt{3}', '4.2', '2\\sqrt{3}', '3',
        ],
    ),
    (
        {'kind': 'formula', 'value': '12'},
        [
        '12', '12.', '12.0', 'The total is 12 apples.', '12 cm', '$12$', 'Sum = 12', '3 \\times 4 = 12',
        '3*4=12', 'twelve', '\\text{12}',
        ],
        [
        '1.2', '120', '12 and 13', '-12', '12x', '13', 'the 12th',
        ],
    ),
    (
        {'kind': 'number', 'value': '12'},
        [
        'Sum = 12', '3*4=12', '**12**', '12 (twelve)', '= 12', '≈12', '12 units',
        'The answer is approximately 12.',
        ],
        [
        '12th', '1 2', '12/13', '12:30', '~13',
        ],
    ),
    (
        {'kind': 'exact', 'value': 'blue'},
        [
        "It's blue.", 'The shape is blue.', 'blue.', 'Blue!', 'The answer is **blue**',
        '\\boxed{\\text{blue}}', '<answer> blue </answer>',
        ],
        [
        'light blue', 'not blue', 'blue or red', 'red',
        ],
    ),
    (
        {'kind': 'number', 'value': '-3'},
        [
        '−3', '-3', 'minus 3', 'negative three', '\\boxed{-3}', 'The answer is -3.', 'x=-3',
        ],
        [
        '3', '- 4',
        ],
    ),
    (
        {'kind': 'number', 'value': '1e-5', 'rel_tol': 0.01},
        [
        '0.00001', '10^{-5}', '1\\times10^{-5}', '10⁻⁵', '1.0E-5',
        ],
        [
        '1e5', '1e-6',
        ],
    ),
    (
        {'kind': 'number', 'value': '3/4'},
        [
        '0.75', '75%', '3/4', '\\frac{3}{4}', 'three quarters', 'three-fourths', '¾', '6/8',
        ],
        [
        '4/3', '0.74', '7.5',
        ],
    ),
    (
        {'kind': 'count', 'value': 12},
        [
        'a dozen', '12 people', 'twelve people are visible', "There're 12", 'I counted 12 apples in total',
        ],
        [
        '12 dozen', 'dozens', '1.2',
        ],
    ),
    (
        {'kind': 'box', 'boxes': [[0, 0, 10, 10], [20, 20, 30, 30]]},
        [
        '[[20,20,30,30],[0,0,10,10]]', '1. [0,0,10,10]\n2. [20,20,30,30]',
        'Box 1: (0,0),(10,10); Box 2: (20,20),(30,30)',
        ],
        [
        '[[0,0,10,10]]', '[[0,0,10,10],[0,0,10,10]]', '[[0,0,10,10],[20,20,30,30],[40,40,50,50]]',
        ],
    ),
]  # fmt: skip
