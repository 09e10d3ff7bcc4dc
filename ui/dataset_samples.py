"""The tiny examples beside the upload form: one for each form of file that is understood."""

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
        "JSON Lines with messages, as OpenAI writes them",
        '{"messages": [{"role": "user", "content": "Hi"}, '
        '{"role": "assistant", "content": "Hello!"}]}\n'
        '{"messages": [{"role": "user", "content": "Bye"}, '
        '{"role": "assistant", "content": "See you!"}]}',
    ),
)
