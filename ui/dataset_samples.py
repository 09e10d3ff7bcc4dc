"""The tiny examples beside the upload form: one for each form of row that is understood."""

SAMPLES = (
    (
        "CSV with text and target",
        'text,target\n"he go to school","He goes to school."\n"i has a dog","I have a dog."',
    ),
    (
        "JSON Lines with prompt and completion (or response)",
        '{"prompt": "Shop asks Bank.", "completion": "@startuml\\nShop -> Bank\\n@enduml"}\n'
        '{"prompt": "Bank asks Shop.", "completion": "@startuml\\nBank -> Shop\\n@enduml"}',
    ),
    (
        "CSV with question, answer and system",
        'system,question,answer\n"Be brief.","Who is there?","Me."\n"Be brief.","Why?","So."',
    ),
    (
        "JSON Lines with instruction, input and output (alpaca)",
        '{"instruction": "Add.", "input": "1 2", "output": "3"}\n'
        '{"instruction": "Greet.", "input": "", "output": "Hello!", "history": [["Hi", "Hi!"]]}',
    ),
    (
        "JSON Lines with conversations (ShareGPT)",
        '{"conversations": [{"from": "human", "value": "Hi"}, '
        '{"from": "gpt", "value": "Hello!"}]}\n'
        '{"conversations": [{"from": "human", "value": "Bye"}, '
        '{"from": "gpt", "value": "See you!"}]}',
    ),
    (
        "JSON Lines with messages, as OpenAI writes them",
        '{"messages": [{"role": "user", "content": "Hi"}, '
        '{"role": "assistant", "content": "Hello!"}]}\n'
        '{"messages": [{"role": "user", "content": "Bye"}, '
        '{"role": "assistant", "content": "See you!"}]}',
    ),
)
